# The stack of roles.yaml, which is the definition: this file is written from it by `make terraform`.
# Streambox: managed policies for whoever works with the table. Attach WriterPolicy to the roles of your services and OperatorPolicy to those of your operators; relay.yaml takes RelayPolicy. With an inbox there are ConsumerPolicy and ConsumerOperatorPolicy as well. They only allow, so they can be put together.

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
  default     = "streambox-roles"
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

variable "inbox_stack" {
  description = "The stack of inbox.yaml, for the policies of consumers. Empty, there are none, unless InboxTableName is given."
  type        = string
  default     = ""
}

variable "inbox_table_name" {
  description = "An inbox's table that InboxStack did not create, such as a restored one. Empty, the table of InboxStack."
  type        = string
  default     = ""
}

resource "aws_cloudformation_stack" "this" {
  name          = var.stack_name
  template_body = file("${path.module}/../../roles.yaml")
  capabilities  = ["CAPABILITY_IAM"]
  tags          = var.tags

  parameters = {
    TableStack     = var.table_stack
    TableName      = var.table_name
    InboxStack     = var.inbox_stack
    InboxTableName = var.inbox_table_name
  }
}

output "stack_name" {
  description = "Name of the stack, for the modules that use it."
  value       = aws_cloudformation_stack.this.name
}

output "writer_policy_arn" {
  description = "For the roles of services that append."
  value       = aws_cloudformation_stack.this.outputs["WriterPolicyArn"]
}

output "reader_policy_arn" {
  description = "For the roles of whoever reads everything."
  value       = aws_cloudformation_stack.this.outputs["ReaderPolicyArn"]
}

output "relay_policy_arn" {
  description = "For the relay's task role."
  value       = aws_cloudformation_stack.this.outputs["RelayPolicyArn"]
}

output "operator_policy_arn" {
  description = "For the roles of operators."
  value       = aws_cloudformation_stack.this.outputs["OperatorPolicyArn"]
}

output "consumer_policy_arn" {
  description = "For the roles of services that handle events. Empty without an inbox."
  value       = lookup(aws_cloudformation_stack.this.outputs, "ConsumerPolicyArn", "")
}

output "consumer_operator_policy_arn" {
  description = "For the roles of operators of consumers. Empty without an inbox."
  value       = lookup(aws_cloudformation_stack.this.outputs, "ConsumerOperatorPolicyArn", "")
}
