"""Honest fleets: many hosts made of the lab's real recordings, with causes that are known because they were planted.

`python -m tests.fleet --hosts 200 --hours 24 --seed 1 OUT` writes a dataset by the writer of `ctobserve convert --dataset`,
and says as JSON what is to be found in it.
"""
