"""Each module is a command: contenders measured in one run, medians with spread, JSON output."""
