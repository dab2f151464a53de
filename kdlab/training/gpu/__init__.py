"""What a cohort does on a GPU: students as one network, steps that nobody waits for, one CUDA graph a step."""
