"""The command `koalja-fn`: one file for each verb or small family of verbs."""
