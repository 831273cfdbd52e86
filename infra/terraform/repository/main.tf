# The stack of repository.yaml, which is the definition: this file is written from it by `make terraform`.
# Streambox: a repository for the image of the relay.

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
  default     = "streambox-repository"
}

variable "tags" {
  description = "Tags of the stack and of what it creates."
  type        = map(string)
  default     = { application = "streambox" }
}

variable "repository_name" {
  description = "Name of the repository."
  type        = string
  default     = "streambox-relay"
}

variable "untagged_days" {
  description = "How many days an image without a tag is kept. One with a tag is kept until you delete it, since a relay may run it."
  type        = number
  default     = 14
}

resource "aws_cloudformation_stack" "this" {
  name          = var.stack_name
  template_body = file("${path.module}/../../repository.yaml")
  tags          = var.tags

  parameters = {
    RepositoryName = var.repository_name
    UntaggedDays   = tostring(var.untagged_days)
  }
}

output "stack_name" {
  description = "Name of the stack, for the modules that use it."
  value       = aws_cloudformation_stack.this.name
}

output "repository_uri" {
  description = "Where the image is pushed; with a tag, the parameter Image of relay.yaml."
  value       = aws_cloudformation_stack.this.outputs["RepositoryUri"]
}

output "repository_arn" {
  description = "For the permission to pull from it."
  value       = aws_cloudformation_stack.this.outputs["RepositoryArn"]
}
