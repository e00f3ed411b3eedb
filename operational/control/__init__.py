"""Sources, the file journal, batches and pipeline runs (采集控制)."""
