"""Measurements behind the figures in docs/benchmarks.md. Run: python -m benchmarks --help"""
