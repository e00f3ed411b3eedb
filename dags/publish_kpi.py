"""## 发布经营指标 Publish KPIs

* **做什么 What**：核对从原始记录到报表的每一跳，全部相符后写经营指标报告。
  Ties every hop from raw record to report; when all of them tie, writes the KPI report.
* **何时 When**：客户评分发布之后。
  Whenever scores have been published.
* **输入 Inputs**：`dm` 层。
  The layer `dm`.
* **输出 Outputs**：经营指标报告。
  The KPI report.
* **之后 Then**：—

### 失败时 When it fails

* **reconcile**：日志列出不平的一跳和差额。先查这一跳；报告不会写出。
  The log lists the hop that does not tie and by how much. Look into that hop first; no report is
  written meanwhile.
* **report**：重跑即可，报告整份替换。
  Run it again: the report is replaced as a whole.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, chain, task

from tollhouse import pipeline

SCORES = Asset("tollhouse://dm/customer_score")

with DAG(
    dag_id="publish_kpi",
    doc_md=__doc__,
    schedule=[SCORES],
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["marts"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def reconcile() -> dict[str, object]:
        """Tie every hop."""
        return pipeline.run_step("reconcile")

    @task
    def report() -> dict[str, object]:
        """Write the KPI report."""
        return pipeline.run_step("report")

    chain(reconcile(), report())
