"""What each quantity of a curve means."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

# What each column of a curve is: the quantity, whether exact, and which way it bounds what.
MEANING = {
    "input_information": "I(X;Z|D) for X uniform over the test inputs, in nats; at most log m",
    "label_information": "I(Y;Z|D) on the test inputs, in nats; at most H(Y) for classes",
    "output_divergence": "mean over test inputs of KL[p_t(z|x,D) || p_0(z|x)], in nats; its mean over D >= I(Z;D|X)",
    "output_divergence_joint": "the same KL of all test outputs together, in nats; at most that of the parameters",
    "parameter_distance": "E|theta_t - theta_0|^2, exact at infinite width",
    "action": "E of the integral of |d theta/ds|^2 ds, exact at infinite width",
    "fisher_action": "the same in the Fisher metric, exact at infinite width",
    "gibbs_mse": "expected squared error of one network on the test inputs, exact",
    "mean_mse": "squared error of the ensemble mean on the test inputs, exact",
    "gibbs_nll": "expected negative log-likelihood of one network, in nats, exact",
    "ensemble_nll": "negative log-likelihood of the ensemble, in nats, exact; at most gibbs_nll",
    "gibbs_error": "0-1 error of one network on the test inputs, exact",
    "mean_error": "0-1 error of the ensemble mean on the test inputs, exact",
    "train_gibbs_mse": "expected squared error of one network on the training inputs, exact",
    "train_mean_mse": "squared error of the ensemble mean on the training inputs, exact",
}
