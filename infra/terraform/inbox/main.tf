# The stack of inbox.yaml, which is the definition: this file is written from it by `make terraform`.
# Streambox: the table of consumers' inboxes. It holds how far each consumer has applied each stream; its sparse index `parked` lists the streams whose next event could not be applied.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "stack_name" {
  description = "Name of the stack."
  type        = string
  default     = "streambox-inbox"
}

variable "tags" {
  description = "Tags of the stack and of what it creates."
  type        = map(string)
  default     = { application = "streambox" }
}

variable "table_name" {
  description = "Name of the table. Consumers may share one, or have one each."
  type        = string
  default     = "streambox-inbox"
}

variable "table_class" {
  description = "STANDARD_INFREQUENT_ACCESS has cheaper storage and dearer requests, which an inbox mostly consists of."
  type        = string
  default     = "STANDARD"
}

variable "kms_key_arn" {
  description = "Key of your own that encrypts the table. Empty: a key that AWS owns, free of charge. The key has to let the principals of this account use it through DynamoDB."
  type        = string
  default     = ""
}

variable "deletion_protection" {
  description = "Whether DynamoDB refuses to delete the table."
  type        = bool
  default     = true
}

variable "recovery_period_days" {
  description = "How far back the table can be restored to any second (point-in-time recovery). Restore it together with the tables that handlers write, to the same second."
  type        = number
  default     = 35
}

variable "max_read_units" {
  description = "Most read units a second, of the table and of the index each; beyond it requests are throttled. 0: no limit but the account's; -1 removes a limit that was set."
  type        = number
  default     = 0
}

variable "max_write_units" {
  description = "Most write units a second, of the table and of the index each; beyond it requests are throttled, and consumers wait. 0: no limit but the account's; -1 removes a limit that was set."
  type        = number
  default     = 0
}

variable "throttled_keys" {
  description = "Whether CloudWatch Contributor Insights names the keys that are throttled. Charged by the throttled request."
  type        = bool
  default     = true
}

resource "aws_cloudformation_stack" "this" {
  name          = var.stack_name
  template_body = file("${path.module}/../../inbox.yaml")
  tags          = var.tags

  parameters = {
    TableName          = var.table_name
    TableClass         = var.table_class
    KmsKeyArn          = var.kms_key_arn
    DeletionProtection = tostring(var.deletion_protection)
    RecoveryPeriodDays = tostring(var.recovery_period_days)
    MaxReadUnits       = tostring(var.max_read_units)
    MaxWriteUnits      = tostring(var.max_write_units)
    ThrottledKeys      = tostring(var.throttled_keys)
  }
}

output "stack_name" {
  description = "Name of the stack, for the modules that use it."
  value       = aws_cloudformation_stack.this.name
}

output "table_name" {
  description = "The inbox's table, for consumers."
  value       = aws_cloudformation_stack.this.outputs["TableName"]
}

output "table_arn" {
  description = "For the policies."
  value       = aws_cloudformation_stack.this.outputs["TableArn"]
}
