"""## 批价 Rate usage

* **做什么 What**：把原始话单变成标准话单，找到用户，按价目计费。
  Turns raw records into usage, finds who used it, and charges it by the price plan.
* **何时 When**：有新话单入库之后。
  Whenever new usage has landed.
* **输入 Inputs**：`raw` 层话单；客户、产品与价目表。
  Usage in `raw`; customers, products and price plans.
* **输出 Outputs**：`mediation`、`billing` 层的使用记录与费用。
  Usage and charges in `mediation` and `billing`.
* **之后 Then**：`settle_partners`

### 失败时 When it fails

* **mediate**、**rate**：日志里写着未通过的模型或检验。修正数据或价目后重跑；分区整体替换，不会
  重复计费。
  The log names the model or test that failed. Correct the data or the price plan and run again:
  whole partitions are replaced, so nothing is charged twice.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, chain, task

from tollhouse import pipeline

LANDED_USAGE = Asset("tollhouse://raw/usage")
CHARGES = Asset("tollhouse://billing/charge")

with DAG(
    dag_id="rate_usage",
    doc_md=__doc__,
    schedule=[LANDED_USAGE],
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["usage"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def mediate() -> dict[str, object]:
        """Make usage of raw records."""
        return pipeline.run_step("mediate")

    @task(outlets=[CHARGES])
    def rate() -> dict[str, object]:
        """Make charges of usage."""
        return pipeline.run_step("rate")

    chain(mediate(), rate())
