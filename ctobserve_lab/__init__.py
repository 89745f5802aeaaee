"""Incidents of connection tracking that anyone can make, each in namespaces of its own. ctobserve observes, this makes trouble"""
