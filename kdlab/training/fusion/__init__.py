"""Several narrow students stepped as one network, each keeping its bits (horizontal fusion: HFTA, MLSys 2021)."""
