"""Money as every surface shows it. Standard library only."""


def dollars(amount: float) -> str:
    """Return US dollars with as many digits as prices of single runs need."""
    return "under $0.0001" if 0 < amount < 0.0001 else f"${amount:,.4f}"
