-- People have to sign in again, and the next run of each task is noted anew.
DROP TABLE task_run;
DROP TABLE session;
