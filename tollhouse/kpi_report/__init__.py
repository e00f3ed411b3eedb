"""The monthly KPI report (经营分析月报): one self-contained HTML file per cycle."""

from tollhouse.kpi_report.report import KpiReportError, write_kpi_report

__all__ = ["KpiReportError", "write_kpi_report"]
