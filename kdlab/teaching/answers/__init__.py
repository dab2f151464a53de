"""What is right in each lesson: its predictions with their reasons, and the checks of its exercises."""
