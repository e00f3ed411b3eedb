"""## 网间结算 Settle partners

* **做什么 What**：按协议给每次网间通话定价，汇总成结算单。
  Prices each interconnected call by its agreement and sums up the statements.
* **何时 When**：有新费用之后。
  Whenever there are new charges.
* **输入 Inputs**：`mediation` 层使用记录；结算协议与中继群。
  Usage in `mediation`; agreements and trunk groups.
* **输出 Outputs**：`settlement` 层明细与结算单。
  Entries and statements in `settlement`.
* **之后 Then**：`refresh_marts`

### 失败时 When it fails

* **settle**：日志里写着未通过的模型或检验；常见原因是通话落在协议有效期之外。补上协议后重跑。
  The log names the model or test that failed; often a call lies outside every agreement. Add
  the agreement and run again.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, task

from tollhouse import pipeline

CHARGES = Asset("tollhouse://billing/charge")
STATEMENTS = Asset("tollhouse://settlement/statement")

with DAG(
    dag_id="settle_partners",
    doc_md=__doc__,
    schedule=[CHARGES],
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["settlement"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task(outlets=[STATEMENTS])
    def settle() -> dict[str, object]:
        """Make entries and statements."""
        return pipeline.run_step("settle")

    settle()
