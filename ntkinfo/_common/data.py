"""A `Dataset` in the place of its four arrays: told by its fields, since who takes one may know no data sets."""

from typing import Any

FIELDS = ("x_train", "y_train", "x_test", "y_test")


def is_dataset(value: Any) -> bool:
    """Whether a value has training and test inputs and targets under the names of `datasets.Dataset`."""
    return all(hasattr(value, field) for field in FIELDS)


def train_pair(x: Any, y: Any) -> tuple[Any, Any]:
    """Training inputs and targets: as given, or those of a `Dataset` in the place of `x`.

    Raises:
      TypeError: both a `Dataset` and labels, or neither.
    """
    if is_dataset(x):
        refuse_beside(y=y)
        return x.x_train, x.y_train
    require("x", y=y)
    return x, y


def test_pair(x_test: Any, y_test: Any, t: Any) -> tuple[Any, Any, Any]:
    """Test inputs, test labels and times: as given, or the first two of a `Dataset` in the place of `x_test`.

    Raises:
      TypeError: both a `Dataset` and labels, or something missing.
    """
    if is_dataset(x_test):
        t = last("x_test", "y_test", y_test, "t", t)
        return x_test.x_test, x_test.y_test, t
    require("x_test", y_test=y_test, t=t)
    return x_test, y_test, t


def last(data_name: str, y_name: str, y: Any, t_name: str, t: Any) -> Any:
    """What follows a `Dataset`: it stands where the labels would, or is given by its name.

    Raises:
      TypeError: labels beside the `Dataset`, or nothing after it.
    """
    if y is not None and t is not None:
        raise TypeError(
            f"`{y_name}` must not be given beside a `Dataset`, which holds its labels: {data_name}, then `{t_name}`."
        )
    if y is None and t is None:
        raise TypeError(f"`{t_name}` must be given after the `Dataset`.")
    return y if t is None else t


def refuse_beside(**given: Any) -> None:
    """Refuses arrays beside a `Dataset` that holds them.

    Raises:
      TypeError: there are some.
    """
    for name, value in given.items():
        if value is not None:
            raise TypeError(f"`{name}` must not be given beside a `Dataset`, which holds it; pass one or the other.")


def require(data_name: str, **given: Any) -> None:
    """Refuses arguments that only a `Dataset` makes needless.

    Raises:
      TypeError: one is missing.
    """
    for name, value in given.items():
        if value is None:
            raise TypeError(f"`{name}` must be given, or a `Dataset` in the place of `{data_name}`; got None.")


def labelled(x: Any, y: Any, x_test: Any, y_test: Any, *, flat: bool = False) -> tuple[Any, Any, Any, Any]:
    """Training and test inputs and labels: as given, or those of a `Dataset` in the place of `x`.

    Of a `Dataset` with classes labels are their numbers, else its targets; `flat` makes every input of it a vector.

    Raises:
      TypeError: arrays beside a `Dataset`, or no labels without one.
    """
    if not is_dataset(x):
        require("x", y=y)
        return x, y, x_test, y_test
    refuse_beside(y=y, x_test=x_test, y_test=y_test)
    has_classes = getattr(x, "labels_train", None) is not None and getattr(x, "labels_test", None) is not None
    labels = (x.labels_train, x.labels_test) if has_classes else (x.y_train, x.y_test)
    rows = [part.reshape(len(part), -1) if flat else part for part in (x.x_train, x.x_test)]
    return rows[0], labels[0], rows[1], labels[1]
