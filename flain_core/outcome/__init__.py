"""What a purification did, and what its reader should know."""
