"""## 数仓维护 Maintain warehouse

* **做什么 What**：清理过期的临时数据，整理存储。
  Removes what has expired and tidies the storage.
* **何时 When**：每周日 04:00。新装时关闭，启用后才运行。
  Sundays at 04:00. Off until somebody switches it on.
* **输入 Inputs**：数仓、日志。
  The warehouse; logs.
* **输出 Outputs**：无业务数据变化。
  No business data changes.
* **之后 Then**：—

### 失败时 When it fails

* **maintain**：不影响业务，下周会再做；若提示磁盘不足，先腾出空间再重跑。
  Nothing depends on it, and it is done again next week; if it reports a full disk, make room
  and run it again.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, task

from tollhouse import pipeline

with DAG(
    dag_id="maintain_warehouse",
    doc_md=__doc__,
    schedule="0 4 * * 0",
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["warehouse"],
    default_args={
        "owner": "tollhouse",
        "pool": "warehouse_writer",
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=15),
    },
):

    @task
    def maintain() -> dict[str, object]:
        """Tidy the warehouse."""
        return pipeline.run_step("maintain")

    maintain()
