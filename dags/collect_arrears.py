"""## 欠费催缴 Collect arrears

* **做什么 What**：入帐缴费并销帐，计收到前一日为止的违约金，按催缴步骤提醒、停机，缴清者复机。
  Posts payments and pays bills from them; charges late fees up to the day before; takes the
  dunning steps whose time has come and restores who has paid.
* **何时 When**：每日 05:00。新装时关闭，启用后才运行。
  Daily at 05:00. Off until somebody switches it on.
* **输入 Inputs**：已定稿帐单；付款；帐单的缴费截止日期；催缴步骤。
  Final bills; payments; due dates; the steps of dunning.
* **输出 Outputs**：应收总帐分录；违约金；催缴记录与停复机指令。
  Entries of the receivables ledger; late fees; dunning actions, barring and restoring orders.
* **之后 Then**：—

### 失败时 When it fails

* **post_accounts**：直接重跑，已入帐的不会再入。
  Run it again: what is posted is not posted twice.
* **late_fees**：直接重跑。每一日只计收一次，漏跑的日子一并补收。
  Run it again: each day is charged once, and days that were missed are made up for.
* **dun**：直接重跑。同一日内每户只进一步；上一步未成功时不会催缴。
  Run it again: an account is taken one step a day, and nobody is dunned while the tasks before have
  not succeeded.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, chain, task

from tollhouse import pipeline

with DAG(
    dag_id="collect_arrears",
    doc_md=__doc__,
    schedule="0 5 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["billing"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def post_accounts() -> dict[str, object]:
        """Post bills and payments, and pay bills from them."""
        return pipeline.run_step("post_accounts")

    @task
    def late_fees() -> dict[str, object]:
        """Charge the days not charged yet."""
        return pipeline.run_step("late_fees")

    @task
    def dun() -> dict[str, object]:
        """Take the steps whose time has come."""
        return pipeline.run_step("dun")

    chain(post_accounts(), late_fees(), dun())
