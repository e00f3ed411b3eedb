"""## 采集话单 Collect usage

* **做什么 What**：把网元送来的话单文件收进来，解码后按批入原始层，再核对每批数据。
  Takes the files that network elements delivered, decodes them into the raw layer batch by
  batch, and checks each batch.
* **何时 When**：每小时第 5 分钟。新装时关闭，启用后才运行。
  Five past every hour. Off until somebody switches it on.
* **输入 Inputs**：落地目录中的文件。
  Files in the landing folder.
* **输出 Outputs**：`raw` 层的话单、文件台帐。
  Usage records in `raw`; the file journal.
* **之后 Then**：有待批价的文件时启动 `rate_usage`。
  `rate_usage`, where files wait to be rated.

### 失败时 When it fails

* **collect**：来源目录不可读。修好后重跑；收过的文件不会再收。
  个别文件不可读时只跳过该文件并写入日志。
  A source folder cannot be read: repair it and run again; a file is never collected twice. A single
  file that cannot be read is skipped and named in the log.
* **land**：重跑即可，文件要么整个入库，要么没有入。
  Run it again: a file has landed whole or not at all.
* **check_landing**：日志里写着哪个文件违反了哪条规则。这些文件已被拒收（文件台帐中为 rejected，
  附原因），原始层中的话单已删除，原件仍在归档目录；重跑时其余文件照常继续。请来源方更正后用新文件名重送。
  The log names the file and the rule. The file is refused: the journal says rejected and why, its
  rows are deleted, its original stays in the archive; running again goes on with the other files.
  Ask the source to send a corrected file under a new name.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, chain, task
from airflow.sdk.exceptions import AirflowSkipException

from tollhouse import pipeline

LANDED_USAGE = Asset("tollhouse://raw/usage")

with DAG(
    dag_id="collect_usage",
    doc_md=__doc__,
    schedule="5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["usage"],
    default_args=pipeline.TASK_DEFAULTS,
):

    @task
    def prepare() -> dict[str, object]:
        """Bring the operational tables up to date."""
        return pipeline.run_step("prepare")

    @task
    def collect() -> dict[str, object]:
        """Enter new files into the journal."""
        return pipeline.run_step("collect")

    @task
    def land() -> dict[str, object]:
        """Decode collected files into the raw layer."""
        return pipeline.run_step("land")

    @task(outlets=[LANDED_USAGE])
    def check_landing() -> dict[str, object]:
        """Check what has landed; where nothing waits for mediation, start nothing after it."""
        counts = pipeline.run_step("check_landing")
        if not counts["expectations"]:
            raise AirflowSkipException("没有待处理的文件 no file waits to be rated")
        return counts

    chain(prepare(), collect(), land(), check_landing())
