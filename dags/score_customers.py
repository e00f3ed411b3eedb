"""## 客户评分 Score customers

* **做什么 What**：训练并评估流失预警与客户价值模型，给每个用户评分并发布。
  Trains and evaluates the churn and value models, scores every subscription and publishes the
  scores.
* **何时 When**：数据集市刷新之后。
  Whenever the marts have been refreshed.
* **输入 Inputs**：`dm` 层用户日表与月表。
  Daily and monthly subscription tables in `dm`.
* **输出 Outputs**：客户评分、模型卡。
  Customer scores and model cards.
* **之后 Then**：`publish_kpi`

### 失败时 When it fails

* **score**：日志里写着哪项特征未通过检查，或数据太少；上一次的评分仍然有效。
  The log names the feature that failed its check, or says that there is too little data; the
  last scores stay in force.
* **publish**：发布是一次性切换，重跑即可。
  Publishing is one swap: run it again.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, chain, task

from tollhouse import pipeline

MARTS = Asset("tollhouse://dm/marts")
SCORES = Asset("tollhouse://dm/customer_score")

with DAG(
    dag_id="score_customers",
    doc_md=__doc__,
    schedule=[MARTS],
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["scores"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def score() -> dict[str, object]:
        """Score every subscription."""
        return pipeline.run_step("score")

    @task(outlets=[SCORES])
    def publish() -> dict[str, object]:
        """Swap the scores in for their readers."""
        return pipeline.run_step("publish")

    chain(score(), publish())
