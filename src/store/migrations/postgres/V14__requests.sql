-- For which of its queues an owner of a namespace asks that they may grow, a list as JSON.
ALTER TABLE namespace ADD COLUMN requests text NOT NULL DEFAULT '[]';

-- How many things the last run of a task was refused to remove, because that would have been too many.
ALTER TABLE task_run ADD COLUMN refused bigint NOT NULL DEFAULT 0;

-- People who may not sign in, by whom and why.
CREATE TABLE barred_person (
    subject text PRIMARY KEY NOT NULL,
    name text NOT NULL,
    since bigint NOT NULL,
    barred_by text NOT NULL,
    reason text NOT NULL
);
