"""Fetches the jars of Delta for Spark into a folder: `spark_jars.py FOLDER`."""
import sys

import delta
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[1]").config("spark.jars.ivy", sys.argv[1])
builder = builder.config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1")
delta.configure_spark_with_delta_pip(builder).getOrCreate().stop()
