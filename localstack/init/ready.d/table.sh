#!/bin/sh
# LocalStack and MiniStack run what stands in this directory once they answer.
exec python3 /etc/streambox/deploy-table.py
