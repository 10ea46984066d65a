"""The error tree: ours and a builtin each, and drawn as it is."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re

import pytest

from bloodcell_edge import errors
from bloodcell_edge.errors import BceError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
KINDS = [cls for cls in CLASSES if cls is not BceError]


def by_name(cls: type) -> str:
    return cls.__name__


@pytest.mark.parametrize("cls", KINDS, ids=by_name)
def test_an_error_is_ours_and_a_builtin(cls):
    """A script may catch each error as BceError or as a builtin that says more than Exception."""
    theirs = [base for base in cls.__mro__ if base.__module__ == builtins.__name__]

    assert issubclass(cls, BceError)
    assert theirs[0] not in (Exception, BaseException, object)


def test_the_drawn_tree_is_the_tree():
    """The tree in the module's docstring names every class, in the order of definition, with its bases."""
    drawn = re.findall(r"(\w+)\((\w+)\)", errors.__doc__)

    def bases(cls: type) -> str:
        return ", ".join(base.__name__ for base in cls.__bases__ if base is not BceError)

    assert drawn == [(cls.__name__, bases(cls)) for cls in CLASSES]


@pytest.mark.parametrize("cls", CLASSES, ids=by_name)
def test_an_error_says_its_message_and_nothing_else(cls):
    """str() of an error is the one line it was given, also after a trip through another process."""
    message = "model.tflite: 3 labels expected, 4 found. Convert it again."

    assert str(cls(message)) == message
    assert str(pickle.loads(pickle.dumps(cls(message)))) == message


@pytest.mark.parametrize("cls", CLASSES, ids=by_name)
def test_an_error_explains_itself(cls):
    """Each class has a docstring of its own."""
    assert cls.__doc__
    assert all(cls.__doc__ != base.__doc__ for base in cls.__bases__)
