"""What sites that forbid custom code have installed: their network and how they train it."""
