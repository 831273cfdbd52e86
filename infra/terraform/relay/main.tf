# The stack of relay.yaml, which is the definition: this file is written from it by `make terraform`.
# Streambox: the relay as a service on Fargate. It publishes what is pending in the table to RabbitMQ. Nothing connects to it.

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
  default     = "streambox-relay"
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

variable "roles_stack" {
  description = "The stack of roles.yaml."
  type        = string
  default     = "streambox-roles"
}

variable "broker_stack" {
  description = "The stack of broker.yaml; empty for a broker of your own."
  type        = string
  default     = ""
}

variable "amqp_url_secret_arn" {
  description = "For a broker of your own: a secret of Secrets Manager whose text is its URL, such as amqps://user:password@host:5671/vhost."
  type        = string
  default     = ""
}

variable "amqp_url_key_arn" {
  description = "The KMS key of that secret, if it is one of your own."
  type        = string
  default     = ""
}

variable "amqp_port" {
  description = "Port of a broker of your own, for the relay's outbound rule."
  type        = number
  default     = 5671
}

variable "image" {
  description = "The relay's image, with a tag or a digest, such as 111122223333.dkr.ecr.eu-central-1.amazonaws.com/streambox-relay:0.1.0."
  type        = string
}

variable "repository_arn" {
  description = "ARN of the image's ECR repository, for the permission to pull. Empty for a public image."
  type        = string
  default     = ""
}

variable "architecture" {
  description = "What the image was built for. ARM64 costs a fifth less."
  type        = string
  default     = "ARM64"
}

variable "task_size" {
  description = "vCPUs of each task (0.25, 0.5, 1, 2), with 0.5, 1, 2, 4 GB of memory."
  type        = string
  default     = "quarter"
}

variable "vpc_id" {
  description = "VPC of the relay."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets in several zones, with a way out to DynamoDB, ECR, CloudWatch Logs and Secrets Manager: public ones with AssignPublicIp, or private ones with a NAT gateway or VPC endpoints."
  type        = list(string)
}

variable "assign_public_ip" {
  description = "ENABLED in public subnets, whose tasks have no other way out. Neither value opens a way in."
  type        = string
  default     = "DISABLED"
}

variable "min_tasks" {
  description = "Fewest tasks. With two, one continues while the other is replaced."
  type        = number
  default     = 2
}

variable "max_tasks" {
  description = "Most tasks, at least MinTasks."
  type        = number
  default     = 4
}

variable "backlog_per_task" {
  description = "Tasks are added while more appends than this are pending for each, and removed while there are fewer."
  type        = number
  default     = 5000
}

variable "exchange" {
  description = "The topic exchange to publish to."
  type        = string
  default     = "streambox"
}

variable "unroutable" {
  description = "What happens to a message that no queue takes. halt, its stream waits; accept, it counts as published."
  type        = string
  default     = "halt"
}

variable "message_format" {
  description = "The body of a message. plain, the payload as it was appended; cloudevents, a CloudEvent in JSON."
  type        = string
  default     = "plain"
}

variable "poll_interval" {
  description = "Longest time from one scan of the index to the next, while nothing is pending: so long may the first event after a pause wait. An idle scan costs half a read unit for each partition of the index and task."
  type        = string
  default     = "500ms"
}

variable "busy_poll_interval" {
  description = "Time to the next scan after one that has found work. Each scan after it that finds none waits half as long again, up to PollInterval."
  type        = string
  default     = "25ms"
}

variable "metrics_namespace" {
  description = "Namespace of the metrics in CloudWatch."
  type        = string
  default     = "Streambox"
}

variable "log_level" {
  description = "What is logged."
  type        = string
  default     = "info"
}

variable "log_retention_days" {
  description = "How many days logs are kept."
  type        = number
  default     = 30
}

resource "aws_cloudformation_stack" "this" {
  name          = var.stack_name
  template_body = file("${path.module}/../../relay.yaml")
  capabilities  = ["CAPABILITY_IAM"]
  tags          = var.tags

  parameters = {
    TableStack       = var.table_stack
    TableName        = var.table_name
    RolesStack       = var.roles_stack
    BrokerStack      = var.broker_stack
    AmqpUrlSecretArn = var.amqp_url_secret_arn
    AmqpUrlKeyArn    = var.amqp_url_key_arn
    AmqpPort         = tostring(var.amqp_port)
    Image            = var.image
    RepositoryArn    = var.repository_arn
    Architecture     = var.architecture
    TaskSize         = var.task_size
    VpcId            = var.vpc_id
    SubnetIds        = join(",", var.subnet_ids)
    AssignPublicIp   = var.assign_public_ip
    MinTasks         = tostring(var.min_tasks)
    MaxTasks         = tostring(var.max_tasks)
    BacklogPerTask   = tostring(var.backlog_per_task)
    Exchange         = var.exchange
    Unroutable       = var.unroutable
    MessageFormat    = var.message_format
    PollInterval     = var.poll_interval
    BusyPollInterval = var.busy_poll_interval
    MetricsNamespace = var.metrics_namespace
    LogLevel         = var.log_level
    LogRetentionDays = tostring(var.log_retention_days)
  }
}

output "stack_name" {
  description = "Name of the stack, for the modules that use it."
  value       = aws_cloudformation_stack.this.name
}

output "cluster_name" {
  description = "For `aws ecs` commands."
  value       = aws_cloudformation_stack.this.outputs["ClusterName"]
}

output "service_name" {
  description = "For `aws ecs` commands."
  value       = aws_cloudformation_stack.this.outputs["ServiceName"]
}

output "log_group_name" {
  description = "For `aws logs tail`."
  value       = aws_cloudformation_stack.this.outputs["LogGroupName"]
}

output "task_role_arn" {
  description = "For a policy of the table or of a key that names who may use it."
  value       = aws_cloudformation_stack.this.outputs["TaskRoleArn"]
}
