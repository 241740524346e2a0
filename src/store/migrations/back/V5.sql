-- Loses tags of this deployment, which the users at RabbitMQ have: SELECT count(*) FROM deployment WHERE EXISTS (SELECT 1 FROM namespace)
DROP TABLE foreign_user;
DROP TABLE deployment;
