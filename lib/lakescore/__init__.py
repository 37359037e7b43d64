"""lakescore: batch scoring on Spark with one pinned model version and its lineage in every row."""
