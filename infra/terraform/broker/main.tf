# The stack of broker.yaml, which is the definition: this file is written from it by `make terraform`.
# Streambox: a RabbitMQ by Amazon MQ, in your VPC alone. Whoever is in the client security group reaches it. A broker of your own needs none of this: relay.yaml takes a secret with its URL.

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
  default     = "streambox-broker"
}

variable "tags" {
  description = "Tags of the stack and of what it creates."
  type        = map(string)
  default     = { application = "streambox" }
}

variable "broker_name" {
  description = "Name of the broker, which no other broker of the account and Region may have. Empty, it is the stack's. Don't change it: another name creates another broker, without the messages of this one."
  type        = string
  default     = ""
}

variable "engine_version" {
  description = "Version of RabbitMQ. 4.x runs on mq.m7g instances only. A higher one is an upgrade in place; there is no way back."
  type        = string
  default     = "4.2"
}

variable "instance_type" {
  description = "Size of each node. AWS recommends medium for tests only."
  type        = string
  default     = "mq.m7g.medium"
}

variable "deployment_mode" {
  description = "One node in one subnet, or three nodes over your subnets. Don't change it or SubnetIds: Amazon MQ can't change them; the guide describes how to move to another broker without loss."
  type        = string
  default     = "SINGLE_INSTANCE"
}

variable "maintenance_day" {
  description = "Day on which Amazon MQ may restart nodes for updates."
  type        = string
  default     = "SUNDAY"
}

variable "maintenance_time" {
  description = "Time (UTC) at which that day's window begins."
  type        = string
  default     = "03:00"
}

variable "vpc_id" {
  description = "VPC of the broker."
  type        = string
}

variable "subnet_ids" {
  description = "One subnet for SINGLE_INSTANCE, several in different zones for CLUSTER_MULTI_AZ."
  type        = list(string)
}

variable "alarm_topic_arn" {
  description = "SNS topic that is notified when an alarm goes off or is over. Empty, alarms are shown in the console only."
  type        = string
  default     = ""
}

variable "ready_messages_alarm_threshold" {
  description = "An alarm goes off when more messages than this wait in queues, which means that consumers do not keep up."
  type        = number
  default     = 100000
}

variable "memory_alarm_percent" {
  description = "An alarm goes off when more than this much of the memory at which RabbitMQ blocks publishers is used, in percent, over all nodes."
  type        = number
  default     = 70
}

resource "aws_cloudformation_stack" "this" {
  name          = var.stack_name
  template_body = file("${path.module}/../../broker.yaml")
  tags          = var.tags

  parameters = {
    BrokerName                  = var.broker_name
    EngineVersion               = var.engine_version
    InstanceType                = var.instance_type
    DeploymentMode              = var.deployment_mode
    MaintenanceDay              = var.maintenance_day
    MaintenanceTime             = var.maintenance_time
    VpcId                       = var.vpc_id
    SubnetIds                   = join(",", var.subnet_ids)
    AlarmTopicArn               = var.alarm_topic_arn
    ReadyMessagesAlarmThreshold = tostring(var.ready_messages_alarm_threshold)
    MemoryAlarmPercent          = tostring(var.memory_alarm_percent)
  }
}

output "stack_name" {
  description = "Name of the stack, for the modules that use it."
  value       = aws_cloudformation_stack.this.name
}

output "amqp_url_secret_arn" {
  description = "The secret with the URL, login included, for relay.yaml."
  value       = aws_cloudformation_stack.this.outputs["AmqpUrlSecretArn"]
}

output "login_secret_arn" {
  description = "The secret with user and password of the administrator, for the web console."
  value       = aws_cloudformation_stack.this.outputs["LoginSecretArn"]
}

output "relay_login_secret_arn" {
  description = "The secret with user and password of the relay, to make that user with."
  value       = aws_cloudformation_stack.this.outputs["RelayLoginSecretArn"]
}

output "client_security_group_id" {
  description = "Consumers that are in this group reach the broker."
  value       = aws_cloudformation_stack.this.outputs["ClientSecurityGroupId"]
}

output "console_url" {
  description = "Web console and management API, from within the VPC."
  value       = aws_cloudformation_stack.this.outputs["ConsoleUrl"]
}
