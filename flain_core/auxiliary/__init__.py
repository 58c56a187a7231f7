"""Clean samples in whatever form they are given: kept whole, or drawn anew in each pass."""
