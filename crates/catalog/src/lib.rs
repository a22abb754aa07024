//! What the registry knows: repositories, tags, manifests, tasks
