"""## 刷新数据集市 Refresh marts

* **做什么 What**：重建公共数据集市，并发布给看板、业务系统和分析人员。
  Rebuilds the public marts and publishes them to dashboards, the web module and analysts.
* **何时 When**：结算单或帐单有更新之后。
  Whenever statements or bills have changed.
* **输入 Inputs**：`billing`、`settlement` 层。
  The layers `billing` and `settlement`.
* **输出 Outputs**：`dm` 层；PostgreSQL 的 `dm`；分析副本。
  `dm`, its copy in PostgreSQL and the analysts' copy.
* **之后 Then**：`score_customers`

### 失败时 When it fails

* **build_marts**：日志里写着未通过的模型或检验；看板仍显示上一版。
  The log names the model or test that failed; dashboards go on showing the last good version.
* **publish**：发布是一次性切换，重跑即可。
  Publishing is one swap: run it again.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, chain, task

from tollhouse import pipeline

STATEMENTS = Asset("tollhouse://settlement/statement")
BILLS = Asset("tollhouse://billing/bill")
MARTS = Asset("tollhouse://dm/marts")

with DAG(
    dag_id="refresh_marts",
    doc_md=__doc__,
    schedule=STATEMENTS | BILLS,
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["marts"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def build_marts() -> dict[str, object]:
        """Rebuild the public marts."""
        return pipeline.run_step("build_marts")

    @task(outlets=[MARTS])
    def publish() -> dict[str, object]:
        """Swap them in for their readers."""
        return pipeline.run_step("publish")

    chain(build_marts(), publish())
