"""## 出帐 Bill cycle

* **做什么 What**：把最早的已结束而未定稿帐期内的费用、月租与付款汇总成试算帐单，待人审批定稿。
  Makes trial bills of the oldest cycle that is over and not final: charges, monthly fees and
  payments, for people to approve.
* **何时 When**：每月 2 日 02:30，也可手工触发。新装时关闭，启用后才运行。
  On the 2nd of each month at 02:30; by hand at any time. Off until somebody switches it on.
* **输入 Inputs**：`billing` 层费用；付款。
  Charges in `billing`; payments.
* **输出 Outputs**：`billing` 层帐单与帐单明细；预付费用户至此的扣费。
  Bills and their items in `billing`; what prepaid accounts are charged on them is deducted.
* **之后 Then**：`refresh_marts`

### 失败时 When it fails

* **bill**：日志里写着未平的总额或未通过的检验。修正后重跑；帐期定稿之前，帐单整体替换；定稿之后
  不再改变。
  The log names the total that does not tie or the test that failed. Correct it and run again:
  bills are replaced as a whole until the cycle is final, and never after.
* **deduct**：直接重跑，不会重复扣费。Run it again: nothing is deducted twice.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, chain, task

from tollhouse import pipeline

BILLS = Asset("tollhouse://billing/bill")

with DAG(
    dag_id="bill_cycle",
    doc_md=__doc__,
    schedule="30 2 2 * *",
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["billing"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task(outlets=[BILLS])
    def bill() -> dict[str, object]:
        """Make the cycle's bills."""
        return pipeline.run_step("bill")

    @task
    def deduct() -> dict[str, object]:
        """Take from prepaid balances what the bills say and is not deducted yet."""
        return pipeline.run_step("deduct")

    chain(bill(), deduct())
