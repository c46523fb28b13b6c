# Replace the identifiers by those of your tenant; none of them is secret.
subscription_id   = "00000000-0000-0000-0000-000000000000"
admin_group_id    = "00000000-0000-0000-0000-000000000001"
deployer_group_id = "00000000-0000-0000-0000-000000000006"
github_repository = null

environment   = "production"
location      = "westeurope"
address_space = "10.40.0.0/16"
host          = "attrition.production.example.com"

alert_emails   = ["attrition-oncall@example.com"]
monthly_budget = 9000

# Lock it once the first exports are verified: afterwards nobody can take it back.
audit_retention_locked = false
