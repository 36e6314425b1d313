"""Whether the service's clock and this machine's agree as far as tokens need.

Must not know: where the time was read.
"""

from __future__ import annotations

from notifier.check.result import OK, WEAKENS, Result
from notifier.doctor.public import Public
from notifier.keys import LEEWAY_S


def check_clock(public: Public, there: float, began: float, came: float) -> Result:
    """`there` was read between the request and the answer, and must lie between `began` and `came` (Unix times)."""
    skew = there - came if there > came else there - began if there < began else 0.0
    if abs(skew) <= LEEWAY_S:
        return public.result("clock", OK, f"within the {LEEWAY_S} s that tokens may differ")
    seen = f"the service's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    return public.result("clock", WEAKENS, f"{seen}: fresh tokens are refused", "timedatectl set-ntp true, on both")
