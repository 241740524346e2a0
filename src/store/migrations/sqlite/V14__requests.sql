-- For which of its queues an owner of a namespace asks that they may grow, a list as JSON.
ALTER TABLE namespace ADD COLUMN requests TEXT NOT NULL DEFAULT '[]';

-- How many things the last run of a task was refused to remove, because that would have been too many.
ALTER TABLE task_run ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;

-- People who may not sign in, by whom and why.
CREATE TABLE barred_person (
    subject TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    since INTEGER NOT NULL,
    barred_by TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
