"""## 开帐 Open cycle

* **做什么 What**：月初打开当月帐期，此后当月话单才能批价。
  Opens the cycle of the month that begins, so that its usage can be rated.
* **何时 When**：每月 1 日 00:00，也可手工触发。新装时关闭，启用后才运行。
  On the 1st of each month at midnight; by hand at any time. Off until somebody switches it on.
* **输入 Inputs**：已有帐期；当天日期。
  The cycles there are; today's date.
* **输出 Outputs**：运营库中的帐期。在此之前到达的当月话单以原因 `no_cycle` 挂起，下次批价时计费。
  Cycles in the operational database. Usage of the month that came before waits as `no_cycle`; the
  next run of `rate` charges it.

### 失败时 When it fails

* **open_cycle**：直接重跑，不会重复打开；漏跑的月份一并补开。
  Run it again: nothing is opened twice, and months that were missed are opened too.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, task

from tollhouse import pipeline

with DAG(
    dag_id="open_cycle",
    doc_md=__doc__,
    schedule="0 0 1 * *",
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["billing"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def open_cycle() -> dict[str, object]:
        """Open the month's cycle."""
        return pipeline.run_step("open_cycle")

    open_cycle()
