"""The one decorator by which kernels are compiled, so that all of them are compiled alike."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a kernel over plain arrays to machine code, once per machine: the result is kept beside the source."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))
