"""How near a picture comes to the limit of its declared tolerance, in digits that agree with the verdict."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

NEAR_LIMIT_DB = 0.1


def psnr_text(psnr_db: float, min_psnr_db: float) -> str:
    """In dB, rounded down, so that no worst case reads better than it is; one digit more within 0.1 of the limit."""
    unit = Decimal("0.01") if abs(psnr_db - min_psnr_db) < NEAR_LIMIT_DB else Decimal("0.1")
    return str(Decimal(str(psnr_db)).quantize(unit, rounding=ROUND_FLOOR))
