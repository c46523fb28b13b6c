# Replace the identifiers by those of your tenant; none of them is secret.
subscription_id   = "00000000-0000-0000-0000-000000000000"
admin_group_id    = "00000000-0000-0000-0000-000000000001"
deployer_group_id = "00000000-0000-0000-0000-000000000006"
github_repository = null

environment   = "staging"
location      = "westeurope"
address_space = "10.41.0.0/16"
host          = "attrition.staging.example.com"

alert_emails   = ["attrition-staging@example.com"]
monthly_budget = 2500

# The shape of production, smaller.
serving_pool = { vm_size = "Standard_D4ds_v5", min_count = 2, max_count = 5 }
tuning_pool  = { vm_size = "Standard_D4ds_v5", max_count = 4, spot_max_price = -1 }
database     = { sku_name = "GP_Standard_D2ds_v5", storage_mb = 32768, high_availability = false, backup_days = 7 }
replication  = "ZRS"
