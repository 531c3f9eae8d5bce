// A broker of mosca. Arguments: the port, and the folder of node_modules. What a user may do is here:
// `backend` everything, `device` only below iot-projekt.
// It is older than its own dependencies: the check of its options no longer works with them.
require(process.argv[3] + '/node_modules/jsonschema').Validator.prototype.validate = () => ({ errors: [] })
const mosca = require(process.argv[3] + '/node_modules/mosca')

const settings = { host: '127.0.0.1', port: Number(process.argv[2]), stats: false }
const server = new mosca.Server({ ...settings, persistence: { factory: mosca.persistence.Memory } })
server.authenticate = (client, username, password, done) => {
  client.username = username
  done(null, ['backend', 'device'].includes(username) && String(password) === 'secret')
}
server.authorizePublish = (client, topic, payload, done) => {
  done(null, client.username === 'backend' || topic.startsWith('iot-projekt/'))
}
