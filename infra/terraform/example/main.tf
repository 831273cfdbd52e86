# The whole system of infra/README.md by Terraform: a module for each template. Outside of this repository a module's source is
# git::https://github.com/streambox-rs/streambox.git//infra/terraform/table?ref=v0.1.0
#
# The table outlives every relay: in production give it a state of its own.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "vpc_id" {
  description = "VPC of broker and relay."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets in several zones, with a way out: a NAT gateway or VPC endpoints."
  type        = list(string)
}

variable "image_tag" {
  description = "Tag of the relay's image in the repository."
  type        = string
  default     = "0.1.0"
}

variable "alarm_topic_arn" {
  description = "SNS topic that alarms are sent to."
  type        = string
  default     = ""
}

variable "service_role" {
  description = "Name of the role that a service runs with, which appends and loads."
  type        = string
}

module "table" {
  source = "../table"
}

# For consumers that keep an inbox; without them leave it out, and `inbox_stack` of the next module.
module "inbox" {
  source = "../inbox"
}

# A stack that another one imports from is named by that module's output: so Terraform creates them in order.
module "roles" {
  source      = "../roles"
  table_stack = module.table.stack_name
  inbox_stack = module.inbox.stack_name
}

# Push the image before the relay is created: terraform apply -target=module.repository
module "repository" {
  source = "../repository"
}

module "broker" {
  source          = "../broker"
  vpc_id          = var.vpc_id
  subnet_ids      = slice(var.subnet_ids, 0, 1)
  alarm_topic_arn = var.alarm_topic_arn
}

module "relay" {
  source         = "../relay"
  table_stack    = module.table.stack_name
  roles_stack    = module.roles.stack_name
  broker_stack   = module.broker.stack_name
  vpc_id         = var.vpc_id
  subnet_ids     = var.subnet_ids
  image          = "${module.repository.repository_uri}:${var.image_tag}"
  repository_arn = module.repository.repository_arn
}

module "monitoring" {
  source          = "../monitoring"
  table_stack     = module.table.stack_name
  alarm_topic_arn = var.alarm_topic_arn
}

resource "aws_iam_role_policy_attachment" "service" {
  role       = var.service_role
  policy_arn = module.roles.writer_policy_arn
}
