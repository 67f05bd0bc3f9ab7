def read_reviews(product: str) -> list[str]:
    """Read what customers wrote about a product."""
    return ["Good value.", "{review}"]
