"""## 预付费扣费 Deduct prepaid

* **做什么 What**：预处理、批价后，将预付费用户新增的费用从帐户余额中扣除，重新批价减少的退回；
  余额不足时提醒、停机，充值后复机。
  Mediates and rates what has landed, and takes from the balances of prepaid accounts what their
  charges rose by (or gives back what they fell by); tells and bars who has too little, restores who
  topped up.
* **何时 When**：每 5 分钟。
  Every five minutes.
* **输入 Inputs**：`raw` 层话单；客户、产品与价目表；预付费余额。
  Usage in `raw`; customers, products and price plans; balances.
* **输出 Outputs**：应收总帐中的扣费；余额提醒；停复机指令。
  Deductions in the receivables ledger; notices; barring and restoring orders.
* **之后 Then**：`refresh_marts`

### 失败时 When it fails

* **mediate**、**rate**：同 `rate_usage`。As in `rate_usage`.
* **deduct**：直接重跑。只入帐与已扣金额的差额，重跑不会重复扣费。
  Run it again: only the difference to what is deducted is posted, so nothing is deducted twice.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, chain, task

from tollhouse import pipeline

with DAG(
    dag_id="deduct_prepaid",
    doc_md=__doc__,
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["billing"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def mediate() -> dict[str, object]:
        """Make usage of raw records."""
        return pipeline.run_step("mediate")

    @task
    def rate() -> dict[str, object]:
        """Make charges of usage."""
        return pipeline.run_step("rate")

    @task
    def deduct() -> dict[str, object]:
        """Take what is charged from the balances."""
        return pipeline.run_step("deduct")

    chain(mediate(), rate(), deduct())
