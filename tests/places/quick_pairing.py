"""Make pairing codes quick to try, as passwords are in tests: 0.1 s each time, on both sides.

For this process, or for a module that is run: `python -m tests.places.quick_pairing MODULE …`.
"""

import runpy
import sys

from agent import proof

_REAL_COST = proof.CODE_COST


def set_pairing_cost(*, is_real: bool) -> None:
    """Have this process try codes at the product's cost, or at next to none."""
    proof.CODE_COST = _REAL_COST if is_real else 2


if __name__ == "__main__":
    set_pairing_cost(is_real=False)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
