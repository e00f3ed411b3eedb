"""Users, sign-in, roles and the audit log (用户与审计)."""
