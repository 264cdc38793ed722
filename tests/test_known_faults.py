"""Faults that were found by users of neighbouring tools, an audit and a fuzz: each with the test that keeps it away.

An entry of `PROVEN` names tests that prove it; what no other test shows by the very call that failed is called here.
"""

import ast
import functools
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import bounds, discrete, estimators, gaussian, information, mixture
from ntkinfo.gaussian import Gaussian

TESTS = Path(__file__).parent

PROVEN = {
    # Wrong numbers without a word.
    "a certificate beside a better solution: clusters of many alike rows": [
        "bottleneck/test_global_optimum.py::test_two_groups_of_alike_classes_are_found_at_one_beta",
        "bottleneck/test_ib.py::test_a_cluster_of_many_alike_rows_is_found",
        "bottleneck/test_global_optimum.py::test_no_restart_beats_a_certified_optimum_by_more_than_its_gap",
        "bottleneck/test_global_optimum.py::test_no_hard_partition_beats_a_certified_optimum",
    ],
    "a gap that was searched for and is called proven": [
        "bottleneck/test_ib.py::test_what_is_proven_says_so",
        "bottleneck/test_branch_and_bound.py::test_no_decoder_exceeds_the_bound_and_one_comes_close",
    ],
    "derivatives on kernels with equal eigenvalues": [
        "ensemble/test_equal_eigenvalues.py::test_derivatives_on_equal_eigenvalues",
        "posterior/test_posterior_derivatives.py::test_derivatives_on_equal_eigenvalues",
        "ensemble/test_equal_eigenvalues.py::test_second_derivatives_are_right_or_refused",
    ],
    "repeated and parallel inputs of kinked networks": [
        "kernels/test_parallel_inputs.py::test_repeated_rows_of_a_relu_network_are_seen",
        "kernels/test_parallel_inputs.py::test_inputs_along_a_ray_follow_the_recursion",
        "kernels/test_parallel_inputs.py::test_equal_rows_have_equal_kernels",
    ],
    "negative variances at inputs trained on": [
        "ensemble/test_variances.py::test_variances_are_never_negative",
        "ensemble/test_variances.py::test_inputs_trained_on_are_named",
        "posterior/test_posterior_derivatives.py::test_variances_are_never_negative",
    ],
    "a checkpoint that takes another run for its own: arrays closed over": [
        "_common/test_checkpoint.py::test_a_fingerprint_is_of_the_arrays_closed_over",
        "_common/test_checkpoint.py::test_networks_that_differ_in_a_fixed_array_are_not_one_run",
    ],
    "a checkpoint that forgets the test data, and refuses the process after": [
        "variational/test_variational.py::test_learning_curve_goes_on",
        "_common/test_checkpoint.py::test_a_fingerprint_is_the_same_in_another_process",
    ],
    "a part of a checkpoint under the name of another": [
        "_common/test_checkpoint.py::test_a_part_under_another_name_or_of_another_run_is_refused",
    ],
    "counts taken for probabilities": ["test_discrete.py::test_every_function_checks_its_tables"],
    "running averages of batch norm that are trained": ["variational/test_variational.py::test_batch_norm_of_flax"],
    "one scale for columns of different units": [
        "datasets/test_sources.py::test_columns_of_a_table_have_scales_of_their_own",
        "datasets/test_tables.py::test_columns_of_different_units_are_told",
        "_cli/test_main.py::test_columns_of_a_table_reach_the_kernel_alike",
    ],
    "saturated estimates that do not say so": [
        "estimators/test_estimators.py::test_ksg_saturates_at_its_own_ceiling",
        "estimators/test_estimators.py::test_ksg_says_where_it_is_too_low_for_its_ceiling",
        "estimators/test_estimators.py::test_binned_saturates_at_the_smaller_entropy",
        "estimators/test_estimators.py::test_kde_saturates_at_its_ceilings",
        "estimators/test_infonce.py::test_copies_saturate_at_the_batch_size",
    ],
    "nearest neighbours that depend on units": ["estimators/test_estimators.py::test_units_do_not_count"],
    "a lower bound above log m": ["information/test_mutual_information.py::test_a_lower_bound_above_log_m_is_told"],
    "estimates that carry their value as a bound": ["mixture/test_channel.py::test_an_estimate_bounds_nothing"],
    "p log p of a value of Z that is never used": [
        "variational/test_variational.py::test_categorical_information_against_brute_force",
    ],
    "transitions of the bottleneck that are none": [
        "bottleneck/test_critical.py::test_inputs_that_split_together_split_once",
        "bottleneck/test_critical.py::test_every_transition_changes_the_optimum",
    ],
    "a bound for a prior that saw the data": [
        "bounds/test_bounds.py::test_a_prior_that_saw_the_labels_is_refused",
        "kernels/test_empirical.py::test_whose_distribution_it_is",
    ],
    "claims of speed beyond what was measured": [
        "test_benchmarks.py::test_the_bottleneck_claims_no_more_than_its_result",
        "test_benchmarks.py::test_the_scale_claims_no_more_than_its_result",
        "test_docs.py::test_the_page_of_checks_is_what_the_results_make",
        "test_docs.py::test_the_row_beside_the_peer_comes_back_with_its_measurement",
    ],
    "a published figure that reads its own result": [
        "test_benchmarks.py::test_the_published_figure_is_computed_again_unless_asked_to_resume",
    ],
    "numbers in notebooks that nothing computes": ["test_notebooks.py::test_no_figure_is_written_by_hand"],
    "a divergence of parameters said never to fall": [
        "information/test_parameter_divergence.py::test_curvature_and_total_can_decrease",
    ],
    "relaxation that counts as faster though a layer forgets nothing": ["test_compression.py::test_relaxation_times"],
    "results beyond the range of their dtype": [
        "test_gaussian.py::test_divergences_beyond_the_dtype_are_refused",
        "kernels/test_kernels.py::test_a_diagonal_that_overflows_is_refused",
        "mixture/test_channel.py::test_an_information_known_to_be_wrong_is_refused",
        "test_compression.py::test_bounds_of_huge_and_tiny_matrices",
    ],
    "epochs that are NaN": ["test_compression.py::test_times_of_compression_check_what_they_are_given"],
    "fits that encode, decode and predict anything": [
        "variational/test_variational.py::test_refusals_of_the_rest",
    ],
    "options that nothing reads, unchecked": [
        "finite/test_information_plane.py::test_options_are_checked_whichever_the_estimator_reads",
        "information/test_mutual_information.py::test_options_are_checked_where_they_are_not_used",
        "sweep/test_scales.py::test_options_are_checked_before_any_cell",
    ],
    "tables in float32 under double precision": [
        "bottleneck/test_critical.py::test_float32_tables_are_computed_in_float64",
        "bottleneck/test_ib.py::test_float32_tables_get_float64_accuracy_and_float32_results",
    ],
    "rounding eigenvalues divided by a small noise": [
        "posterior/test_posterior_derivatives.py::test_singular_kernels_at_the_smallest_noise",
    ],
    "one β alone far above the optimum": [
        "bottleneck/test_global_optimum.py::test_one_beta_finds_what_a_grid_finds_on_a_table_of_counts",
        "bottleneck/test_ib.py::test_one_beta_alone_reaches_what_a_grid_and_the_certificate_reach",
    ],
    "labels in other units than the noise": [
        "information/test_mutual_information.py::test_a_noise_far_from_the_error_is_told",
        "kernels/test_own_kernels.py::test_an_offset_of_the_labels_taken_for_noise_is_warned_of",
    ],
    # Work and processes lost.
    "a job that trains first and misses a library then": [
        "_cli/test_output.py::test_plane_says_what_is_missing_before_it_trains",
        "_cli/test_output.py::test_plane_keeps_what_was_measured_before_a_fault",
        "_cli/test_output.py::test_main_goes_on_from_a_checkpoint",
    ],
    "memory maps of compiled programs": [
        "_common/test_programs.py::test_caches_are_cleared_at_four_fifths_with_one_warning",
        "_common/test_programs.py::test_two_thousand_networks_and_sizes_in_one_process",
        "_common/test_interning.py::test_a_network_made_again_compiles_nothing",
        "_common/test_interning.py::test_an_optimiser_made_again_compiles_nothing",
        "mixture/test_channel.py::test_neighbouring_sizes_share_a_program",
        "finite/test_train_layers.py::test_numbers_are_arguments_of_the_programs",
    ],
    "two writers and one folder": [
        "_common/test_checkpoint.py::test_threads_share_a_folder",
        "_common/test_checkpoint.py::test_processes_share_a_folder",
        "_common/test_checkpoint.py::test_leftovers_of_dead_runs_are_removed_and_no_others",
        "_common/test_checkpoint.py::test_a_full_disk_is_named_and_leaves_nothing",
        "_common/test_checkpoint.py::test_a_run_killed_at_any_moment_ends_bit_for_bit_the_same",
    ],
    "folders of other runs": [
        "_common/test_checkpoint.py::test_arguments_that_are_none_are_refused",
        "_common/test_checkpoint.py::test_arguments_that_lack_some_are_refused",
        "_common/test_checkpoint.py::test_training_refuses_folders_without_a_chunk",
    ],
    "files that claim little and unpack much": [
        "_common/test_npz.py::test_headers_that_do_not_fit_are_refused_at_once",
        "_common/test_npz.py::test_a_bomb_that_keeps_to_its_header_is_refused_by_its_size",
        "_common/test_npz.py::test_idx_files_are_read_as_far_as_their_header_says",
    ],
    "memory spent before it is asked for": [
        "_common/test_memory.py::test_what_does_not_fit_is_refused_before_it_begins",
        "_common/test_memory.py::test_estimates_are_what_is_taken",
        "mixture/test_channel.py::test_memory_of_the_exact_information_grows_with_the_points_alone",
    ],
    "sizes without a limit": [
        "_common/test_check.py::test_sizes_have_limits_and_widths_are_taken_from_lists",
        "estimators/test_infonce.py::test_networks_that_fit_in_no_memory_are_refused",
    ],
    "results that cannot be kept": [
        "test_files.py::test_every_result_comes_back_bit_by_bit",
        "test_files.py::test_results_can_be_pickled_or_say_how_they_are_kept",
    ],
    "tracebacks of the command line": [
        "_cli/test_hostile.py::test_no_value_of_an_option_ends_in_a_traceback",
        "_cli/test_output.py::test_links_are_replaced_and_not_written_through",
        "_cli/test_output.py::test_a_folder_never_holds_results_of_two_runs",
        "_cli/test_output.py::test_files_of_others_are_refused_before_anything_is_written",
        "_cli/test_output.py::test_dependencies_do_not_speak_to_the_user",
    ],
    # Errors that mislead.
    "own kernels that are none": [
        "kernels/test_own_kernels.py::test_own_kernel_functions_are_refused_by_name",
        "kernels/test_own_kernels.py::test_kernels_given_are_checked_and_a_vector_of_labels_is_taken",
    ],
    "a singular kernel blamed on the wrong cause": [
        "kernels/test_own_kernels.py::test_a_singular_kernel_names_its_cause",
        "kernels/test_own_kernels.py::test_a_graph_and_images_without_an_end_say_what_is_missing",
    ],
    "modules of other libraries": [
        "kernels/test_own_kernels.py::test_modules_of_other_libraries_are_named_with_their_adapter",
    ],
    "masks and dropout in finite networks": [
        "kernels/test_own_kernels.py::test_finite_networks_with_dropout_or_masks_say_what_to_do",
    ],
    "what is no random key": [
        "_common/test_check.py::test_what_is_no_random_key_is_named",
        "mixture/test_channel.py::test_what_is_no_key_is_named",
        "content/test_content.py::test_what_is_no_key_is_named",
        "estimators/test_infonce.py::test_what_is_no_random_key_is_refused_by_name",
        "bottleneck/test_error_exponent.py::test_what_is_no_random_key_is_refused_by_name",
    ],
    "objects of a wrong kind": [
        "finite/test_information_plane.py::test_objects_of_a_wrong_kind_are_refused_with_their_maker",
        "information/test_mutual_information.py::test_what_is_no_prediction_or_ensemble_is_named",
        "mixture/test_channel.py::test_what_is_no_information_is_named",
    ],
    "other layouts and dtypes": ["_common/test_check.py::test_lists_tables_and_other_layouts_are_taken"],
    "integers that are taken for classes": ["estimators/test_estimators.py::test_integers_are_told_to_be_classes"],
    "labels that are text or integers": [
        "kernels/test_own_kernels.py::test_labels_that_are_no_numbers_are_told_what_to_do"
    ],
    "the diag_reg of neural-tangents": ["test_readme.py::test_the_page_for_users_of_neural_tangents_runs_and_is_short"],
    "a β of another convention that trains to nothing": [
        "variational/test_variational.py::test_a_beta_that_trains_to_nothing_is_warned_of",
    ],
    "one noise for each label": ["posterior/test_per_label.py::test_predictions_are_those_of_the_labels_alone"],
    "hostile arguments of every public function": [
        "fuzz/test_fuzz.py::test_every_public_function_has_a_call_or_a_reason_against_it",
        "fuzz/test_fuzz.py::test_a_sample_of_hostile_arguments_is_refused",
    ],
    # Mutations of numerical code that no test noticed.
    "Miller and Madow's correction off by 1/n": [
        "estimators/test_estimators.py::test_miller_madow_is_the_number_of_occupied_cells",
    ],
    "smoothing by the number of inputs": ["test_discrete.py::test_smoothing_of_a_table_that_is_not_square"],
    "the tolerances of sums and of symmetry": [
        "_common/test_check.py::test_sums_are_one_within_the_tolerance_and_not_beyond",
        "_common/test_check.py::test_matrices_symmetric_to_rounding_are_symmetric",
        "content/test_content.py::test_tolerance_of_symmetry",
    ],
    "the critic that is zero": ["estimators/test_infonce.py::test_where_no_critic_helps_the_one_that_is_zero_is_kept"],
    "the number of blocks of an error": ["estimators/test_estimators.py::test_number_of_blocks_of_the_ksg_error"],
}


@functools.cache
def functions(file: str) -> set[str]:
    return {node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("fault", PROVEN)
def test_a_proof_is_there(fault):
    for proof in PROVEN[fault]:
        file, name = proof.split("::")
        assert name in functions(file), proof


def test_a_proof_that_is_gone_would_be_seen():
    assert "test_two_groups_that_never_were" not in functions("bottleneck/test_global_optimum.py")


def refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_two_joint_distributions_are_not_one_result():
    """Real labels: the bound below is that of a density, which log m does not limit; above nothing is known."""
    z, y = Gaussian(np.array([[0.0], [1.0], [2.0]]), np.full(3, 1e-12)), np.array([0.0, 1.0, 2.0])
    with pytest.warns(UserWarning, match="log m"):
        found = information.label_information(z, y, noise="fit")
    assert found.upper == np.inf and found.lower > np.log(3)


def test_options_are_refused_where_they_were_ignored():
    z = Gaussian(np.array([[0.0], [1.0], [2.0]]), np.ones(3))
    refused(ValueError, '`noise` must be a number for classes; got "fit"',
            lambda: information.label_information(z, np.array([0, 1, 1]), noise="fit"))  # fmt: skip


@pytest.mark.parametrize("function", [discrete.entropy, discrete.mutual_information, discrete.merge_rows])
def test_tables_that_are_no_probabilities_are_refused(function):
    good = np.array([[0.25, 0.25], [0.1, 0.4]]) * (2 if function is discrete.entropy else 1)
    for bad, message in ((100 * good, "sum to 1"), (good - 0.2, "negative"), (good * np.nan, "finite")):
        refused(ValueError, message, lambda bad=bad: function(bad))
    for spelled in (good.tolist(), good.astype(">f8")):
        for one, two in zip(jax.tree.leaves(function(spelled)), jax.tree.leaves(function(good)), strict=True):
            np.testing.assert_array_equal(one, two)


def test_sizes_and_labels_that_ended_the_process_are_refused():
    x = np.random.default_rng(0).normal(size=(40, 1))
    refused(ValueError, "`hidden`", lambda: estimators.infonce(x, x, key=jax.random.key(0), hidden=(2**62,)))
    refused(ValueError, "`depth`", lambda: ni.architectures.network(depth=10**30))
    z = Gaussian(x[:3], np.ones(3))
    refused(ValueError, "`labels` must number its classes without gaps",
            lambda: information.label_information(z, np.array([0, 1, 10**9])))  # fmt: skip
    refused(
        ValueError, "`y`", lambda: ni.variational.fit(x[:3], np.array([0, 1, 2**62]), beta=2.0, key=jax.random.key(0))
    )


@pytest.mark.parametrize(
    "key", [None, 0, "a", np.zeros(2), np.zeros(3, np.uint32), jax.random.split(jax.random.key(0))]
)
def test_what_is_no_key_is_refused_where_it_is_used(key):
    mean, variance = np.zeros((3, 2)), np.ones(3)
    key = jax.random.split(jax.random.key(0)) if isinstance(key, str) and key == "two keys" else key
    for call in (
        lambda: mixture.monte_carlo(mean, variance, key=key, n_samples=4),
        lambda: ni.content.positive_probability(np.eye(2), np.ones(2), np.zeros((1, 2)), np.ones(1), key=key),
        lambda: estimators.infonce(mean, mean, key=key),
        lambda: ni.bottleneck.ib(np.eye(2) / 2, 2.0, restarts=1, key=key),
    ):
        refused((TypeError, ValueError), "`key`", call)


@pytest.mark.parametrize("wrong", [None, np.ones((3, 1)), "a", {}])
def test_what_is_no_result_is_refused_with_its_maker(wrong):
    for call, name in (
        (lambda: information.losses(wrong, np.ones(3)), "z"),
        (lambda: information.curve(wrong, np.ones((2, 1)), np.ones(2), 1.0), "ens"),
        (lambda: gaussian.kl_divergence(wrong, wrong), "p"),
        (lambda: ni.variational.measure(wrong, np.ones((2, 1)), np.ones(2), key=jax.random.key(0)), "fit"),
        (lambda: ni.finite.summary(wrong, key=jax.random.key(0)), "run"),
        (lambda: ni.plot.network(wrong), "report"),
    ):
        refused(TypeError, f"`{name}", call)


def test_narrow_dtypes_and_masks_are_refused_by_name():
    p = np.array([0.25, 0.75])
    for narrow in (np.float16, jnp.bfloat16):
        refused(TypeError, "`p` must", lambda narrow=narrow: discrete.entropy(jnp.asarray(p, narrow)))
    refused((TypeError, ValueError), "`p` must", lambda: discrete.entropy(np.ma.masked_less(p, 0.5)))


def test_a_bound_takes_an_upper_end_or_what_is_known():
    for risk, kl in ((np.nan, 1.0), (0.1, np.nan), (1.5, 1.0), (0.1, -1.0)):
        refused(ValueError, "`risk`|`kl`", lambda risk=risk, kl=kl: bounds.pac_bayes_kl(risk, kl, n=10))


def test_bounds_say_that_repeated_and_drawn_examples_are_not_independent():
    assert "repeated inputs left out, are only nearly" in " ".join(bounds.pac_bayes_kl.__doc__.split())


def test_predictions_and_tables_can_be_pickled():
    for result in (Gaussian(np.zeros((2, 1)), np.ones(2)), discrete.from_counts([[3, 1], [0, 2]])):
        again = pickle.loads(pickle.dumps(result))
        assert type(again) is type(result) and repr(again) == repr(result)
