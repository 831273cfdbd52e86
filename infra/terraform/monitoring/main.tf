# The stack of monitoring.yaml, which is the definition: this file is written from it by `make terraform`.
# Streambox: alarms on table and relay, and a dashboard of both. Those on the relay look at what a relay writes that has STREAMBOX_EMF_NAMESPACE, wherever it runs.

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
  default     = "streambox-monitoring"
}

variable "tags" {
  description = "Tags of the stack and of what it creates."
  type        = map(string)
  default     = { application = "streambox" }
}

variable "table_stack" {
  description = "The stack of table.yaml."
  type        = string
  default     = "streambox-table"
}

variable "table_name" {
  description = "A table that TableStack did not create, such as a restored one. Empty, the table of TableStack."
  type        = string
  default     = ""
}

variable "metrics_namespace" {
  description = "Namespace of the relay's metrics in CloudWatch; that of relay.yaml."
  type        = string
  default     = "Streambox"
}

variable "alarm_topic_arn" {
  description = "SNS topic that is notified when an alarm goes off or is over. Empty, alarms are shown in the console only."
  type        = string
  default     = ""
}

variable "oldest_pending_alarm_seconds" {
  description = "An alarm goes off when something has been pending for longer than this for 5 minutes."
  type        = number
  default     = 60
}

variable "conflicts_alarm_threshold" {
  description = "An alarm goes off at this many transaction conflicts within 5 minutes. A few are normal: writers meet on a stream and retry by themselves."
  type        = number
  default     = 500
}

resource "aws_cloudformation_stack" "this" {
  name          = var.stack_name
  template_body = file("${path.module}/../../monitoring.yaml")
  tags          = var.tags

  parameters = {
    TableStack                = var.table_stack
    TableName                 = var.table_name
    MetricsNamespace          = var.metrics_namespace
    AlarmTopicArn             = var.alarm_topic_arn
    OldestPendingAlarmSeconds = tostring(var.oldest_pending_alarm_seconds)
    ConflictsAlarmThreshold   = tostring(var.conflicts_alarm_threshold)
  }
}

output "stack_name" {
  description = "Name of the stack, for the modules that use it."
  value       = aws_cloudformation_stack.this.name
}

output "dashboard_name" {
  description = "Its name in CloudWatch."
  value       = aws_cloudformation_stack.this.outputs["DashboardName"]
}
