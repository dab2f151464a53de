"""Tests in a real browser. A package, so that its servers stop when its last test has run."""
