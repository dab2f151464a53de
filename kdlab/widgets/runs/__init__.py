"""What the two explorers of finished runs share: reading, arms, controls and panels."""
