"""## 数仓维护 Maintain warehouse

* **做什么 What**：核对每条原始话单的去向，清理过期的原件与临时数据，整理存储。
  Audits the outcome of every raw record, removes what has expired and tidies the storage.
* **何时 When**：每周日 04:00。新装时关闭，启用后才运行。
  Sundays at 04:00. Off until somebody switches it on.
* **输入 Inputs**：数仓、日志。
  The warehouse; logs.
* **输出 Outputs**：无业务数据变化。
  No business data changes.
* **之后 Then**：—

### 失败时 When it fails

* **audit**：有话单没有去向、有两个去向，或标准话单与原始话单计量不符。停止出帐，查清后再继续。
  A record has no outcome or two, or usage measures something else than its records. Stop billing
  until it is understood.
* **maintain**：不影响业务，下周会再做；若提示磁盘不足，先腾出空间再重跑。
  Nothing depends on it, and it is done again next week; if it reports a full disk, make room
  and run it again.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, chain, task

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
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def audit() -> dict[str, object]:
        """See that every raw record has one outcome, and every standard one its usage."""
        return pipeline.run_step("audit")

    @task
    def maintain() -> dict[str, object]:
        """Tidy the warehouse."""
        return pipeline.run_step("maintain")

    chain(audit(), maintain())
