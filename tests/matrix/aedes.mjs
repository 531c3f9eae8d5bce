// aedes is a library: this makes a broker of it. Arguments: the port, and the folder of node_modules.
// What a user may do is here: `backend` everything, `device` only below iot-projekt.
import { createRequire } from 'node:module'
import { createServer } from 'node:net'

const { Aedes } = createRequire(process.argv[3] + '/x.js')('aedes')
const broker = await Aedes.createBroker({ queueLimit: 1000000 })
broker.authenticate = (client, username, password, done) => {
  client.username = username
  const known = ['backend', 'device'].includes(username) && String(password) === 'secret'
  done(known ? null : Object.assign(new Error('unknown'), { returnCode: 4 }), known)
}
broker.authorizePublish = (client, packet, done) => {
  const allowed = !client || client.username === 'backend' || packet.topic.startsWith('iot-projekt/')
  done(allowed ? null : new Error('forbidden'))
}
createServer(broker.handle).listen(Number(process.argv[2]), '127.0.0.1')
