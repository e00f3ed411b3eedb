"""Benchmarks 性能测试: commands that measure, with control totals beside every figure."""
